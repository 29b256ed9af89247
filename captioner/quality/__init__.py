"""The data-quality report: faults of images, captions, questions and pairs in a data set.

The readers of `captioner.data` give the entries, `captioner.quality.audit` runs all checks, and
`findings_page` and `cleaning` write the report and a cleaned manifest.
"""
