"""`python -m fallline` is the command `fallline`."""

from fallline.cli import main

if __name__ == "__main__":
    main()
