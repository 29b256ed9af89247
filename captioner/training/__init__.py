"""The parts that the visible loop of `train.py` calls."""
