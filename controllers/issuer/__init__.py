"""External issuers: OpenID Connect issuers of somebody else's, in place of a realm."""
