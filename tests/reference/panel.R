# Panel estimators of plm; by hand, first differences between consecutive years and the regression-based Hausman test.
# Run from the repo root, after panel_tables.py: Rscript tests/reference/panel.R
# Writes tests/reference/panel_plm.json
suppressPackageStartupMessages(library(plm))
library(jsonlite)

stacked <- read.csv("tests/reference/panel_data.csv")
rows <- function(name) subset(stacked, table == name, -table)
panels <- list(
  wage = list(data = read.csv(gzfile("hierpanel/data_files/wage_panel.csv.gz")), index = c("worker", "year"),
              y = "log_wage", x = c("union", "married", "hours"), invariant = "education"),
  unbalanced = list(data = rows("unbalanced"), index = c("unit", "year"), y = "y", x = c("x", "z", "d"),
                    invariant = "c"),
  gaps = list(data = rows("gaps"), index = c("unit", "year"), y = "y", x = c("x", "z", "d"), invariant = "c"),
  tiny = list(data = rows("tiny"), index = c("unit", "year"), y = "y", x = "x"))

clean <- function(x) setNames(x, gsub("[()]", "", names(x)))  # (Intercept) -> Intercept
named <- function(x) as.list(clean(x))

ols <- function(coefs, vcov, df, residuals) {
  enough <- df > 0
  se <- sqrt(diag(as.matrix(vcov)))
  if (!enough) se[] <- NA
  list(coef = named(coefs), se = named(setNames(se, names(coefs))), df = df,
       sigma = if (enough) sqrt(sum(residuals^2) / df) else NA, nobs = length(residuals))
}

# OLS of the differences between rows of a unit whose years differ by exactly one.
by_hand <- function(p, intercept) {
  d <- p$data[order(p$data[[p$index[1]]], p$data[[p$index[2]]]), ]
  i <- seq_len(nrow(d))[-1]
  i <- i[d[[p$index[1]]][i] == d[[p$index[1]]][i - 1] & d[[p$index[2]]][i] == d[[p$index[2]]][i - 1] + 1]
  v <- c(p$y, p$x)
  fit <- lm(reformulate(p$x, p$y, intercept = intercept), d[i, v, drop = FALSE] - d[i - 1, v, drop = FALSE])
  ols(coef(fit), if (df.residual(fit) > 0) vcov(fit) else diag(NA, length(coef(fit))), df.residual(fit), resid(fit))
}

estimates <- function(p) {
  d <- pdata.frame(p$data, index = p$index, row.names = FALSE)
  f <- reformulate(p$x, p$y)
  f0 <- reformulate(p$x, p$y, intercept = FALSE)
  run <- function(formula, ...) {
    m <- plm(formula, d, ...)
    c(list(formula = deparse(formula, 500)), ols(coef(m), vcov(m), df.residual(m), resid(m)))
  }
  components <- function(formula, method = "swar") {
    m <- plm(formula, d, model = "random", random.method = method)
    e <- ercomp(m)
    theta <- if (length(e$theta) == 1) e$theta[[1]] else as.list(e$theta[!duplicated(names(e$theta))])
    list(sigma2 = as.list(e$sigma2), theta = theta)
  }
  random <- function(formula, method = "swar") {
    c(run(formula, model = "random", random.method = method), components(formula, method))
  }
  tested <- function(t) list(statistic = t$statistic[[1]], df = t$parameter[[1]], p = t$p.value[[1]])
  # y* ~ an intercept + x* + (x - its unit's mean), * being less theta times the unit's mean; F times its df, F that the
  # last are all 0. The intercept is 1, as phtest has it, or 1 - theta.
  aux <- function(formula, transformed) {
    m <- plm(formula, d, model = "random", random.method = "swar")
    unit <- as.character(d[[p$index[1]]])
    theta <- ercomp(m)$theta
    theta <- if (length(theta) == 1) rep(theta, nrow(d)) else theta[unit]
    less <- function(v, share) as.numeric(v) - share * ave(as.numeric(v), unit)
    x <- sapply(p$x, function(v) less(d[[v]], 1))
    z <- sapply(labels(terms(formula)), function(v) less(d[[v]], theta))
    one <- if (transformed) 1 - theta else rep(1, nrow(d))
    fit <- lm(less(d[[p$y]], theta) ~ 0 + one + z + x)
    k <- length(coef(fit)) - rev(seq_along(p$x)) + 1
    statistic <- drop(crossprod(coef(fit)[k], solve(vcov(fit)[k, k], coef(fit)[k])))
    list(statistic = statistic, df = length(k), p = pchisq(statistic, length(k), lower.tail = FALSE),
         coef = as.list(setNames(coef(fit)[k], p$x)), s2 = sigma(fit)^2, df_residual = df.residual(fit))
  }
  hausman <- function(formula) {
    # phtest skips as many starred coefficients as there are deviations from means, too few if more columns are starred.
    wrong <- length(labels(terms(formula))) > length(p$x)
    tests <- list(c(tested(phtest(formula, data = d, method = "aux")), components(formula)),
                  list(plain_intercept = aux(formula, FALSE), transformed_intercept = aux(formula, TRUE)),
                  tested(phtest(plm(formula, d, model = "within"),
                                plm(formula, d, model = "random", random.method = "swar"))))
    names(tests) <- c(if (wrong) "aux_wrong_coefficients" else "aux", "aux_by_hand", "chisq")
    c(list(formula = deparse(formula, 500)), tests)
  }

  fd <- list(run(f, model = "fd"), run(f0, model = "fd"))
  steps <- diff(p$data[[p$index[2]]])[diff(p$data[[p$index[1]]]) == 0]  # plm differences whatever the step
  names(fd) <- paste0(c("fd", "fd_no_intercept"), if (any(steps != 1)) "_wrong_across_gaps")
  fd <- c(fd, list(fd_by_hand = by_hand(p, TRUE), fd_no_intercept_by_hand = by_hand(p, FALSE)))
  if (is.null(p$invariant)) return(fd)

  fz <- reformulate(c(p$x, p$invariant), p$y)
  for (v in p$x) {
    d[[paste0(v, "_between")]] <- ave(as.numeric(d[[v]]), d[[p$index[1]]])
    d[[paste0(v, "_within")]] <- as.numeric(d[[v]]) - d[[paste0(v, "_between")]]
  }
  fm <- reformulate(c(paste0(p$x, "_within"), paste0(p$x, "_between")), p$y)
  c(list(within = run(f, model = "within"),
         within_twoways = run(f, model = "within", effect = "twoways"),
         between = run(f, model = "between"),
         pooling = run(f, model = "pooling"),
         random = random(f),
         random_invariant = random(fz),
         mundlak = random(fm, if (is.pbalanced(d)) "swar" else "walhus"),  # swar inverts a singular matrix otherwise
         phtest = hausman(f),
         phtest_invariant = hausman(fz)), fd)
}

result <- c(list(made_with = list(R = R.version.string, plm = as.character(packageVersion("plm")))),
            lapply(panels, estimates))
writeLines(toJSON(result, auto_unbox = TRUE, digits = I(15), na = "null", pretty = 1),
           "tests/reference/panel_plm.json")
