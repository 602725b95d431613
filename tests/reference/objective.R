# lme4's REML criterion and ML deviance at stated theta; nothing is optimised.
# Run from the repo root, after the data sets: Rscript tests/reference/objective.R
# Writes tests/reference/objective.json
suppressPackageStartupMessages(library(lme4))
library(jsonlite)

read <- function(name) {
  d <- read.csv(gzfile(file.path("hierpanel", "data_files", paste0(name, ".csv.gz"))))
  groups <- c("subject", "plate", "sample", "batch", "cask", "s", "d", "dept")
  for (v in intersect(groups, names(d))) d[[v]] <- factor(d[[v]])
  d
}

# The first theta is near the REML estimate; zeros are exact. Their order is lFormula's: `factors` in the output.
models <- list(
  list("sleepstudy", "reaction ~ days + (days | subject)",
       list(c(0.967, 0.015, 0.231), c(0, 0, 0.3), c(0.9, 0.1, 0), c(1.2, -0.25, 0.125))),
  list("dyestuff", "yield_ ~ 1 + (1 | batch)", list(0.848, 0, 2.5)),
  list("penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)", list(c(1.54, 3.51), c(0, 2), c(0.7, 0))),
  list("pastes", "strength ~ 1 + (1 | batch/cask)", list(c(3.53, 1.56), c(0, 1.5), c(2, 0))),
  list("insteval", "y ~ 1 + (1 | s) + (1 | d) + (1 | dept)",
       list(c(0.277, 0.439, 0.07), c(0.5, 0.25, 0), c(0, 1.25, 0.75))),
  list("insteval", "y ~ service + (1 | s) + (1 | d)", list(c(0.276, 0.442), c(0, 0.5), c(1.5, 0.125))))

num <- function(x) {  # 17 digits, which toJSON alone does not write
  text <- sprintf("%.17g", x)
  structure(if (length(x) == 1) text else paste0("[", paste(text, collapse = ", "), "]"), class = "json")
}

evaluate <- function(m) {
  d <- read(m[[1]])
  f <- as.formula(m[[2]])
  reml <- lmer(f, d, REML = TRUE, devFunOnly = TRUE)
  ml <- lmer(f, d, REML = FALSE, devFunOnly = TRUE)
  rho <- environment(reml)
  df <- nrow(rho$pp$X) - ncol(rho$pp$X)
  at <- function(theta) {
    criterion <- reml(theta)  # leaves in rho the solution at this theta
    list(theta = I(theta), REML = num(criterion), sigma2 = num((rho$resp$wrss() + rho$pp$sqrL(1)) / df),
         ML = num(ml(theta)), beta = I(lapply(rho$pp$beta(1), num)))
  }
  list(data = m[[1]], formula = m[[2]], nobs = nrow(d), factors = lapply(lFormula(f, d)$reTrms$cnms, I),
       points = lapply(m[[3]], at))
}

writeLines(prettify(toJSON(lapply(models, evaluate), auto_unbox = TRUE, json_verbatim = TRUE, digits = NA), 1),
           "tests/reference/objective.json")
