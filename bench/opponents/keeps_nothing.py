"""A FastAPI route with the fields and limits of ours that believes everything valid and keeps none of it.

uvicorn bench.opponents.keeps_nothing:app
"""

from typing import Annotated

from fastapi import FastAPI
from pydantic import BaseModel, EmailStr, StringConstraints


class Contact(BaseModel):
    """What a visitor sends."""

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
    email: Annotated[EmailStr, StringConstraints(max_length=254)]
    company: Annotated[str, StringConstraints(strip_whitespace=True, max_length=1_000)] | None = None
    message: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=20_000)]


class Thanks(BaseModel):
    """What the visitor hears."""

    success: bool
    message: str


app = FastAPI()


@app.get("/health")
async def health() -> dict[str, str]:
    """Say that the process lives."""
    return {"status": "ok"}


@app.post("/api/contact")
async def contact(message: Contact) -> Thanks:  # noqa: ARG001 - reading it is the work that is measured
    """Believe the message and forget it."""
    return Thanks(success=True, message="Thank you for your message!")
