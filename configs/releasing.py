"""How a proven Bento is released: signed, and published to an object store."""

import re

from pydantic import Field, field_validator

from configs.section import Section

_ADDRESS = r"[a-z][a-z0-9+.-]*://[^@?#\s]+"  # no @, ? or #, behind which secrets stand


class Release(Section):
    """Stage release: what a proven Bento gets on its way into the store, and where it goes besides."""

    signing_key: str | None = Field(
        None,
        min_length=1,
        max_length=2000,
        description="PEM file of the elliptic-curve private key, without a password, that signs each "
        "release (relative to the config file); needs the extra signing. By default none is signed.",
    )
    publish: str | None = Field(
        None,
        min_length=1,
        max_length=1000,
        description="Address that each release is copied to besides, of any fsspec scheme, such as "
        "s3://bucket/releases; `ekiben pull` fetches it from there. Credentials come from the "
        "environment. By default nothing is published.",
    )

    @field_validator("publish")
    @classmethod
    def _is_an_address_without_secrets(cls, address: str | None) -> str | None:
        if address is None or re.fullmatch(_ADDRESS, address):
            return address and address.rstrip("/")
        raise ValueError(
            "is no SCHEME://BUCKET/PREFIX; leave out user, password, @, ? and #, and give "
            "credentials by the environment, as AWS_ACCESS_KEY_ID"
        )
