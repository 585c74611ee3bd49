"""WSGI application for `gunicorn wsgi:app` and for `flask` in a checkout."""

from flask.cli import NoAppException

from ridges_proxy import create_app
from ridges_proxy.config import SettingsError

try:
    app = create_app()
except SettingsError as error:
    # Flask prints this error without a traceback. Under gunicorn, gunicorn.conf.py has already reported it.
    raise NoAppException(str(error)) from None
