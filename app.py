"""The application for servers that are told `app:app`, as in `gunicorn app:app` and `uvicorn app:app`."""

from pillarbox.app import create_app

app = create_app()
