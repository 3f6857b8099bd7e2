"""`python -m halfpixel`, for launchers such as torchrun."""

from halfpixel.cli import main

if __name__ == "__main__":
    main()
