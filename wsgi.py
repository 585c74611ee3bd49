"""The application for `gunicorn wsgi:app` and for `flask`."""

import sys

from ridges_proxy import create_app
from ridges_proxy.config import SettingsError

try:
    app = create_app()
except SettingsError as error:
    sys.exit(str(error))
