"""The application for `gunicorn wsgi:app` and for `flask`."""

from flask.cli import NoAppException

from ridges_proxy import create_app
from ridges_proxy.config import SettingsError

try:
    app = create_app()
except SettingsError as error:
    # As flask reports it beside its help; to gunicorn, gunicorn.conf.py has told it before.
    raise NoAppException(str(error)) from None
