"""python -m qraft_cli."""

from qraft_cli.main import main

main()
