"""The soak tests use the lab of the end-to-end tests. `make soak` runs them; they are too long for `make test`."""

from tests.e2e.conftest import homes, lab, shared_lab

__all__ = ["homes", "lab", "shared_lab"]
