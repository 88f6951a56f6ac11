"""vmrole: the life cycle of a service's virtual machines, from image to rotation.

The package is a set of layers that point down: ``errors`` and ``model`` are values, ``engine`` and ``render`` are
pure, ``ports`` names what the world must offer, ``drivers`` offer it, ``control`` runs the loop, ``cli`` talks to
people. ``import-linter`` holds the arrows; ``pyproject.toml`` has them.
"""

__version__ = "0.1.0"
