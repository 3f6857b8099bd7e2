"""The run-time type check of the tests: beartype, with an int accepted for a float as Python's typing rules have it."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
