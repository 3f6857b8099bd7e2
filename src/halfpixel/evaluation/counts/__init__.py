"""How far counts are off, and calibration of scores and counts."""
