-- The images that a tenant's bots may name; one that ends with * stands for all that begin so. NULL: as for everybody
-- (TENANT_IMAGES).
ALTER TABLE accounts.tenants ADD COLUMN images text[];
