"""
The yardstick of accepting: FastAPI and nothing else. Run by the Python of its own environment (images_peers.py).

The body is not even read: no model, no validation, no key.
"""

from __future__ import annotations

from fastapi import FastAPI

app = FastAPI()


@app.post("/api/jobs", status_code=202)
async def create() -> dict[str, str]:
    """Accept whatever comes."""
    return {"id": "019f9a3b7c21d0", "state": "pending"}
