# Design matrices as R (model.matrix, lm) and lme4 (lFormula) build them.
# Run from the repo root: Rscript tests/reference/matrices.R
# Writes tests/reference/matrices_data.csv and tests/reference/matrices.json
suppressPackageStartupMessages(library(lme4))
library(jsonlite)

# --- the data: 48 rows in shuffled order, g x item crossed once, two classrooms in each school ---------------------
set.seed(20240311, kind = "Mersenne-Twister", normal.kind = "Inversion", sample.kind = "Rejection")
n <- 48
used <- list(s1 = c("c1", "c2"), s2 = c("c1", "c3"), s3 = c("c2", "c4"),
             s4 = c("c3", "c4"), s5 = c("c1", "c4"), s6 = c("c2", "c3"))
room <- sample(c(rep(1:12, 3), sample(12, 12, replace = TRUE)))  # unbalanced, every classroom seen
cells <- expand.grid(h = c("a", "b", "c"), k = c("p", "q", "r"), f2 = c("u", "v"), stringsAsFactors = FALSE)
data <- data.frame(
  y = rnorm(n), x = rnorm(n, 3), z = rnorm(n, 0.5, 2), w = rexp(n) + 0.1,
  year = sample(rep(2000:2007, 6)),
  cells[sample(c(1:18, sample(18, n - 18, replace = TRUE))), ],  # unbalanced, every h x k x f2 seen
  g = rep(paste0("g", 1:6), each = 8), item = rep(paste0("i", 1:8), 6),
  school = rep(names(used), each = 2)[room], classroom = unlist(used)[room]
)[sample(n), ]
stopifnot(all(table(data$h, data$k) > 0), all(table(data$h, data$k, data$f2) > 0), data$w > 0,
          nrow(unique(data[c("school", "classroom")])) == 12)
written <- data
written[] <- lapply(data, function(v) if (is.numeric(v)) sprintf("%.17g", v) else v)
write.csv(written, "tests/reference/matrices_data.csv", row.names = FALSE, quote = FALSE)
words <- vapply(data, is.character, NA)
data[words] <- lapply(data[words], factor)

# --- the formulas (in R's spelling) ---------------------------------------------------------------------------------
common <- c(  # right sides without a bar
  "1", "x", "0 + x", "x + z", "x * z", "x:z", "x * z - 1", "(x + z + h)^2", "I(x^2) + x", "log(w)", "log(w):h",
  "h", "0 + h", "h + k", "0 + h + k", "h + z - 1", "x + h - 1", "h * k", "h:k", "0 + h:k", "h:k + x", "h + h:k",
  "h * k - h", "h * k * f2", "x * h", "x:h", "x + x:h", "x * h - x", "h/x", "x/h", "h/k", "0 + h:x", "0 + h/x",
  "0 + k + x:h", "h:x + k:x", "x * h * k", "f2 * h", "0 + f2:h", "f2/h/x", "year + x", "factor(year)",
  "factor(year) + h:k", "offset(z) + x", "x + z + I(x + z)", "school:classroom", "school/classroom")
bars <- c(  # right sides with bars
  "x + (1 | g)", "(1 | g)", "0 + (1 | g)", "0 + x + (1 | g)", "h - 1 + (1 | g)", "x + (1 | g) + z",
  "h:k + (1 | g)", "h:x + k:x + (1 | g)", "x * h + (x * h | g)", "offset(z) + x + (x | g)",
  "school:classroom + (1 | g)",
  # the left side of the bar
  "x + (x | g)", "x + (0 + x | g)", "x + (x - 1 | g)", "x + (x + 0 | g)", "x + (1 + x | g)", "(x + z | g)",
  "(x + z + 0 | g)", "(x * z | g)", "(x:z | g)", "(h | g)", "(0 + h | g)", "(h - 1 | g)", "(x + h | g)",
  "(0 + x + h | g)", "(x:h | g)", "(0 + x:h | g)", "(x + x:h | g)", "(h/x | g)", "(x/h | g)", "(h:x + z | g)",
  "(h + k | g)", "(0 + h + k | g)", "(0 + h:k | g)", "(h:k | g)", "(f2 | g)", "(0 + f2:x | g)", "(f2 * h | g)",
  "(log(w) | g)", "(I(x^2) | g)", "(x + I(x^2) | g)", "(year | g)", "((x + z + f2)^2 | g)",
  # uncorrelated
  "x + (x || g)", "(x + z || g)", "(0 + x + z || g)", "(x * z || g)", "(log(w) || g)", "(1 | g) + (0 + x | g)",
  "(1 | g) + (0 + h | g)", "(x | g) + (0 + z | g)",
  # nested and crossed
  "(1 | school/classroom)", "(x | school/classroom)", "(0 + h | school/classroom)", "(x || school/classroom)",
  "(1 | school/classroom/f2)", "(1 | school:classroom)", "(x | school:classroom)", "(1 | classroom:school)",
  "(1 | school) + (1 | school:classroom)", "(1 | g:item)", "(1 | g/item)", "(1 | g) + (1 | item)",
  "x + (x | g) + (1 | item)", "(x || g) + (1 | item)", "(x | g) + (0 + h | item)", "(1 | year)", "(x | year) + (1 | g)")
to_python <- function(f) {
  for (p in list(c("^2", "**2"), c("log(", "np.log("), c("factor(", "C("))) f <- gsub(p[1], p[2], f, fixed = TRUE)
  f
}

# --- the matrices ---------------------------------------------------------------------------------------------------
quiet <- do.call(lmerControl, setNames(rep(list("ignore"), 6), paste0("check.", c(
  "nobs.vs.rankZ", "nobs.vs.nlev", "nlev.gtreq.5", "nlev.gtr.1", "nobs.vs.nRE", "scaleX"))))

# Row i's entries of Z for its own level: Ztlist has the columns of one level next to one another.
one_term <- function(Zt, names, factor_name, groups) {
  q <- length(names)
  Zt <- as.matrix(Zt)
  Z <- t(vapply(seq_len(n), function(i) Zt[(as.integer(groups)[i] - 1) * q + seq_len(q), i], numeric(q)))
  if (q == 1) Z <- t(Z)
  stopifnot(nrow(Zt) == q * nlevels(groups), dim(Z) == c(n, q), isTRUE(all.equal(sum(abs(Z)), sum(abs(Zt)))))
  list(factor = factor_name, names = I(names), Z = Z, levels = as.character(groups))
}

random_terms <- function(model) {  # in the order of the formula, not by size as lFormula itself sorts them
  re <- mkReTrms(findbars(model$formula), model$fr, reorder.terms = FALSE)
  which_factor <- attr(re$flist, "assign")
  lapply(seq_along(re$cnms), function(j) one_term(
    re$Ztlist[[j]], re$cnms[[j]], names(re$cnms)[j], re$flist[[which_factor[j]]]))
}

reference <- function(right) {
  text <- paste("y ~", right)
  f <- as.formula(text)
  if (grepl("|", right, fixed = TRUE)) {
    model <- suppressMessages(lFormula(f, data, control = quiet))
    full <- model.matrix(nobars(model$formula), data)
    X <- model$X
    terms <- random_terms(model)
  } else {
    full <- model.matrix(f, data)
    X <- full[, !is.na(coef(lm(f, data))), drop = FALSE]
    terms <- list()
  }
  stopifnot(qr(X)$rank == ncol(X), qr(full)$rank == ncol(X))
  off <- model.offset(model.frame(subbars(f), data))
  out <- list(formula = text, python = to_python(text), X_names = I(as.character(colnames(X))),
              X = unname(as.matrix(X)), dropped = I(as.character(setdiff(colnames(full), colnames(X)))), terms = terms)
  if (!is.null(off)) out$offset <- off
  attr(out$X, "assign") <- NULL
  out
}

entries <- lapply(c(common, bars), reference)
text <- vapply(entries, function(e) as.character(toJSON(e, digits = NA, auto_unbox = TRUE)), "")
writeLines(c("[", paste0(text, c(rep(",", length(text) - 1), "")), "]"), "tests/reference/matrices.json")
