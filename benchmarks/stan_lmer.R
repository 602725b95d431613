# Seconds of rstanarm::stan_lmer on a table, and its smallest n_eff: of all parameters, and of those but the effects.
# Run: Rscript benchmarks/stan_lmer.R table.csv "y ~ x + (x | g)" [repeats, 1 unless given]
# Prints one line of JSON. Reading is not counted, warmup is, and starting two R workers too; nothing is compiled.
arguments <- commandArgs(trailingOnly = TRUE)
if (!length(arguments) %in% 2:3) stop("usage: Rscript benchmarks/stan_lmer.R table.csv formula [repeats]")
path <- arguments[1]
formula <- as.formula(arguments[2])
repeats <- if (length(arguments) == 3) as.integer(arguments[3]) else 1L
suppressPackageStartupMessages(library(rstanarm))

fast <- requireNamespace("data.table", quietly = TRUE) && !grepl("[.]gz$", path)  # fread takes gzip with R.utils only
data <- if (fast) data.table::fread(path, data.table = FALSE) else read.csv(path)
for (bar in lme4::findbars(formula)) for (v in all.vars(bar[[3]])) data[[v]] <- factor(data[[v]])

seconds <- numeric(repeats)
for (k in seq_len(repeats)) {  # one seed: repeats measure the machine, and draw the same
  gc()
  seconds[k] <- system.time(gcFirst = FALSE, {
    fit <- stan_lmer(formula, data, chains = 4, iter = 2000, cores = 2, refresh = 0, seed = 1)
  })[["elapsed"]]
}

n_eff <- fit$stan_summary[, "n_eff"]
names <- rownames(fit$stan_summary)
parameters <- !names %in% c("mean_PPD", "log-posterior") & !grepl("_NEW_", names)  # not the effects of unseen levels
effects <- startsWith(names, "b[")
draws <- nrow(as.matrix(fit))
cat(sprintf(paste0('{"seconds": [%s], "rows": %d, "draws": %d, "smallest_n_eff": %.10g, ',
                   '"smallest_n_eff_without_effects": %.10g, "divergences": %d, "rstanarm": "%s"}\n'),
            paste(sprintf("%.10g", seconds), collapse = ", "), nobs(fit), draws, min(n_eff[parameters]),
            min(n_eff[parameters & !effects]), rstan::get_num_divergent(fit$stanfit), packageVersion("rstanarm")))
