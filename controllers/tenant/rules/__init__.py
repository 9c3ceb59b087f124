"""What can be wrong with a tenant, by condition: small pure rules, each ``TenantView -> Verdict | None``."""
