"""The few types that everything else passes around."""
