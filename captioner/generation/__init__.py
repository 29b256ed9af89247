"""Run a search on a backend: captions, answers, scores of texts, attention."""
