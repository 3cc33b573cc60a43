"""`python -m unfade` is `unfade`."""

from unfade.cli import main

if __name__ == "__main__":
    main()
