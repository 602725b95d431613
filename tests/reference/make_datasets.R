# Example data from lme4 and rstanarm -> hierpanel/data_files/*.csv.gz
# Run from the repo root: Rscript tests/reference/make_datasets.R
suppressPackageStartupMessages(library(lme4))
data(radon, package = "rstanarm")

# The shortest text that reads back as the same number.
shortest <- function(x) {
  short <- sprintf("%.15g", x)
  ifelse(as.numeric(short) == x, short, sprintf("%.17g", x))
}

save_csv <- function(data, name) {
  data[] <- lapply(data, function(v) if (is.numeric(v)) shortest(v) else trimws(as.character(v)))
  out <- gzfile(file.path("hierpanel", "data_files", paste0(name, ".csv.gz")), "wb", compression = 9)
  on.exit(close(out))  # gzfile writes neither a file name nor a time
  write.table(data, out, sep = ",", row.names = FALSE, quote = FALSE, eol = "\n")
}

save_csv(setNames(sleepstudy, tolower(names(sleepstudy))), "sleepstudy")
save_csv(Penicillin[c("diameter", "plate", "sample")], "penicillin")
save_csv(with(Dyestuff, data.frame(yield_ = Yield, batch = Batch)), "dyestuff")
save_csv(with(Dyestuff2, data.frame(yield_ = Yield, batch = Batch)), "dyestuff2")
save_csv(Pastes[c("strength", "batch", "cask")], "pastes")
save_csv(cbpp[c("herd", "period", "incidence", "size")], "cbpp")
save_csv(radon[c("floor", "county", "log_radon", "log_uranium")], "radon")
save_csv(InstEval[c("s", "d", "studage", "lectage", "service", "dept", "y")], "insteval")
