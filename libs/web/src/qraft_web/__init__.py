"""The look shared by all pages. Only static files live here; each service serves its own page beside them."""

from qraft_web.files import static_dir

__all__ = ["static_dir"]
