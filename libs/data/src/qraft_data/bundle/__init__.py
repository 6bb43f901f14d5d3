"""The air-gapped bundle: what one lake knows, as one file that another verifies whole before it takes any of it."""
