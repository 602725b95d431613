# Seconds of lme4::lmer (REML) on a table.
# Run: Rscript benchmarks/lmer.R table.csv "y ~ x + (x | g)" [repeats, 1 unless given]
# Prints one line of JSON. Reading is not counted; controls are lme4's defaults.
arguments <- commandArgs(trailingOnly = TRUE)
if (!length(arguments) %in% 2:3) stop("usage: Rscript benchmarks/lmer.R table.csv formula [repeats]")
path <- arguments[1]
formula <- as.formula(arguments[2])
repeats <- if (length(arguments) == 3) as.integer(arguments[3]) else 1L
suppressPackageStartupMessages(library(lme4))

fast <- requireNamespace("data.table", quietly = TRUE) && !grepl("[.]gz$", path)  # fread takes gzip with R.utils only
data <- if (fast) data.table::fread(path, data.table = FALSE) else read.csv(path)
for (bar in findbars(formula)) for (v in all.vars(bar[[3]])) data[[v]] <- factor(data[[v]])

seconds <- numeric(repeats)
for (k in seq_len(repeats)) {
  gc()
  seconds[k] <- system.time(fit <- lmer(formula, data, REML = TRUE), gcFirst = FALSE)[["elapsed"]]
}
number <- function(x) paste0("[", paste(sprintf("%.10g", x), collapse = ", "), "]")
cat(sprintf('{"seconds": %s, "rows": %d, "criterion": %.10g, "theta": %s, "fixef": %s, "sigma": %.10g, "lme4": "%s"}\n',
            number(seconds), nobs(fit), REMLcrit(fit), number(getME(fit, "theta")), number(fixef(fit)), sigma(fit),
            packageVersion("lme4")))
