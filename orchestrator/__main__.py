"""``python -m orchestrator`` is ``vmrole``."""

from orchestrator.cli import main

if __name__ == "__main__":
    main()
