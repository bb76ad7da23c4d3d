"""Lets `python -m study` list and make the recorded runs."""

from study.runs import main

if __name__ == "__main__":
    main()
