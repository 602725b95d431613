# Estimates of lme4 (lmer: REML; glmer: Laplace) for the packaged data sets.
# Run from the repo root: Rscript tests/reference/estimates.R
# Writes tests/reference/estimates.json
suppressPackageStartupMessages(library(lme4))
library(jsonlite)

read <- function(name) {
  d <- read.csv(gzfile(file.path("hierpanel", "data_files", paste0(name, ".csv.gz"))))
  groups <- c("subject", "plate", "sample", "batch", "cask", "herd", "period", "county", "worker")
  for (v in intersect(groups, names(d))) d[[v]] <- factor(d[[v]])
  d
}

# name, data, R's formula, hierpanel's formula (NA: the same text)
models <- list(
  c("sleepstudy_correlated", "sleepstudy", "reaction ~ days + (1 + days | subject)", NA),
  c("sleepstudy_uncorrelated", "sleepstudy", "reaction ~ days + (days || subject)", NA),
  c("penicillin_crossed", "penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)", NA),
  c("pastes_nested", "pastes", "strength ~ 1 + (1 | batch/cask)", NA),
  c("radon_slopes", "radon", "log_radon ~ floor + log_uranium + (1 + floor | county)", NA),
  c("wage_intercepts", "wage_panel", "log_wage ~ experience + union + married + (1 | worker)", NA),
  c("wage_slopes", "wage_panel", "log_wage ~ experience + (1 + experience | worker)", NA),
  c("dyestuff", "dyestuff", "yield_ ~ 1 + (1 | batch)", NA),
  c("dyestuff2", "dyestuff2", "yield_ ~ 1 + (1 | batch)", NA),
  c("cbpp", "cbpp", "cbind(incidence, size - incidence) ~ period + (1 | herd)",
    "prop(incidence, size) ~ C(period) + (1 | herd)"))

num <- function(x) {  # 17 digits, which toJSON alone does not write
  text <- sprintf("%.17g", x)
  structure(if (length(x) == 1) text else paste0("[", paste(text, collapse = ", "), "]"), class = "json")
}
named <- function(x) lapply(as.list(x), num)

estimate <- function(m) {
  d <- read(m[2])
  f <- as.formula(m[3])
  laplace <- m[1] == "cbpp"
  fit <- if (laplace) {
    glmer(f, d, family = binomial, control = glmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-9)))
  } else {
    lmer(f, d, REML = TRUE, control = lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-9)))
  }
  blocks <- VarCorr(fit)  # `||` gives one block for each column: subject, subject.1
  factors <- names(getME(fit, "cnms"))
  sd <- lapply(split(unname(blocks), factor(factors, unique(factors))),
               function(b) named(do.call(c, lapply(b, attr, "stddev"))))
  pairs <- Filter(function(b) nrow(b) == 2, blocks)
  beta <- cbind(fixef(fit), sqrt(diag(as.matrix(vcov(fit)))))
  list(name = m[1], data = m[2], formula = m[3], python = if (is.na(m[4])) m[3] else m[4],
       method = if (laplace) "Laplace" else "REML", fixef = apply(beta, 1, num, simplify = FALSE),
       sd = sd, cor = named(vapply(pairs, function(b) attr(b, "correlation")[2, 1], 0)),
       sigma = if (laplace) NULL else num(sigma(fit)), loglik = num(as.numeric(logLik(fit))), nobs = nobs(fit))
}

fits <- lapply(models, estimate)
writeLines(prettify(toJSON(fits, auto_unbox = TRUE, json_verbatim = TRUE, null = "null"), 1),
           "tests/reference/estimates.json")
