"""An evaluation for people: in come figures, out go pages, tables, charts and cards.

`html` and `markdown` are the report, `charts` and `chart_files` its curves, `claim` the CLAIM list, `dataset_card` the
card of a data set, `run_record` what a training run wrote down.
"""
