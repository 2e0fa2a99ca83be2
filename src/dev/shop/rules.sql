-- The demo shop, part 5: foreign keys, indexes, views, row level security, comments.
-- Run in database shop as the superuser.

SET ROLE shop_owner;

-- A row may only point at rows of its own tenant.
ALTER TABLE public.users ADD CONSTRAINT users_email_key UNIQUE (email),
  ADD CONSTRAINT users_tenant_key UNIQUE (tenant_id, id);
ALTER TABLE public.customers ADD CONSTRAINT customers_email_key UNIQUE (tenant_id, email),
  ADD CONSTRAINT customers_tenant_key UNIQUE (tenant_id, id);
ALTER TABLE public.products ADD CONSTRAINT products_sku_key UNIQUE (tenant_id, sku),
  ADD CONSTRAINT products_tenant_key UNIQUE (tenant_id, id);
ALTER TABLE public.orders ADD CONSTRAINT orders_tenant_key UNIQUE (tenant_id, id);

ALTER TABLE public.users ADD FOREIGN KEY (tenant_id) REFERENCES public.tenants;
ALTER TABLE public.customers ADD FOREIGN KEY (tenant_id) REFERENCES public.tenants;
ALTER TABLE public.products ADD FOREIGN KEY (tenant_id) REFERENCES public.tenants,
  ADD FOREIGN KEY (category_id) REFERENCES public.categories;
ALTER TABLE public.addresses ADD FOREIGN KEY (tenant_id, customer_id) REFERENCES public.customers (tenant_id, id) ON DELETE CASCADE;
ALTER TABLE public.orders ADD FOREIGN KEY (tenant_id, customer_id) REFERENCES public.customers (tenant_id, id);
ALTER TABLE public.order_items
  ADD FOREIGN KEY (tenant_id, order_id) REFERENCES public.orders (tenant_id, id) ON DELETE CASCADE,
  ADD FOREIGN KEY (tenant_id, product_id) REFERENCES public.products (tenant_id, id);
ALTER TABLE public.payments ADD FOREIGN KEY (tenant_id, order_id) REFERENCES public.orders (tenant_id, id);
ALTER TABLE public.shipments ADD FOREIGN KEY (tenant_id, order_id) REFERENCES public.orders (tenant_id, id);
ALTER TABLE public.reviews ADD FOREIGN KEY (tenant_id, product_id) REFERENCES public.products (tenant_id, id),
  ADD FOREIGN KEY (tenant_id, customer_id) REFERENCES public.customers (tenant_id, id);
ALTER TABLE public.inventory_movements ADD FOREIGN KEY (tenant_id, product_id) REFERENCES public.products (tenant_id, id),
  ADD FOREIGN KEY (tenant_id, user_id) REFERENCES public.users (tenant_id, id);

CREATE INDEX addresses_customer ON public.addresses (customer_id);
CREATE INDEX orders_customer ON public.orders (customer_id);
CREATE INDEX orders_placed ON public.orders (tenant_id, placed_at DESC);
CREATE INDEX orders_open ON public.orders (placed_at) WHERE status IN ('pending', 'paid');
CREATE INDEX order_items_product ON public.order_items (product_id);
CREATE INDEX payments_order ON public.payments (order_id);
CREATE INDEX shipments_order ON public.shipments (order_id);
CREATE INDEX reviews_product ON public.reviews (product_id);
CREATE INDEX inventory_movements_product ON public.inventory_movements (product_id, moved_at);

-- Which tenants a role may see. The policies pass current_user, because inside the function it would
-- be the owner's. It reads tenant_member with the owner's rights, so that nobody else needs to.
CREATE FUNCTION public.my_tenants(asking name DEFAULT CURRENT_USER) RETURNS SETOF integer
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT tenant_id FROM private.tenant_member WHERE group_role = asking $$;

DO $$
DECLARE
  owned text;
BEGIN
  FOREACH owned IN ARRAY ARRAY['users', 'customers', 'addresses', 'products', 'orders', 'order_items', 'payments',
                               'shipments', 'reviews', 'inventory_movements', 'tenants'] LOOP
    EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY', owned);
    EXECUTE format('ALTER TABLE public.%I FORCE ROW LEVEL SECURITY', owned);
    -- A policy without WITH CHECK holds for the rows written as well.
    EXECUTE format('CREATE POLICY own_tenant ON public.%I USING (%I IN (SELECT public.my_tenants(CURRENT_USER)))',
                   owned, CASE owned WHEN 'tenants' THEN 'id' ELSE 'tenant_id' END);
  END LOOP;
END $$;

CREATE VIEW public.order_summary AS
SELECT orders.id, orders.tenant_id, orders.placed_at, orders.status, customers.name AS customer, orders.total,
  (SELECT count(*) FROM public.order_items WHERE order_items.order_id = orders.id) AS lines
FROM public.orders JOIN public.customers ON customers.id = orders.customer_id;

CREATE VIEW public.monthly_revenue AS
SELECT tenants.slug AS tenant, date_trunc('month', paid_at)::date AS month, sum(amount) AS revenue, count(*) AS payments
FROM public.payments JOIN public.tenants ON tenants.id = payments.tenant_id
GROUP BY 1, 2;

CREATE VIEW public.product_ratings AS
SELECT products.id, products.tenant_id, products.name, round(avg(stars), 2) AS stars, count(*) AS reviews
FROM public.products JOIN public.reviews ON reviews.product_id = products.id
GROUP BY products.id;

GRANT SELECT ON public.tenants, public.orders, public.order_items, public.shipments TO shop_support;
GRANT SELECT (id, tenant_id, name, country) ON public.customers TO shop_support;

COMMENT ON TABLE public.tenants IS 'The shops that share this database';
COMMENT ON TABLE private.tenant_member IS 'Which group role may see which tenant; read by my_tenants()';
COMMENT ON TABLE public.users IS 'Staff of the shops';
COMMENT ON COLUMN public.users.password_hash IS 'Never granted to anyone';
COMMENT ON TABLE public.customers IS 'Buyers; e-mail and phone are personal data';
COMMENT ON TABLE public.addresses IS 'Where customers live and where parcels go';
COMMENT ON TABLE public.categories IS 'Kinds of products, shared by all tenants';
COMMENT ON TABLE public.products IS 'What is for sale';
COMMENT ON TABLE public.orders IS 'Purchases; total is the sum of the items';
COMMENT ON TABLE public.order_items IS 'Lines of an order, with the price of that day';
COMMENT ON TABLE public.payments IS 'Money received';
COMMENT ON COLUMN public.payments.card_last4 IS 'The last four digits, for support';
COMMENT ON TABLE public.shipments IS 'Parcels on their way or delivered';
COMMENT ON TABLE public.reviews IS 'What buyers say';
COMMENT ON TABLE public.inventory_movements IS 'Every change of stock, and who made it';
COMMENT ON FUNCTION public.my_tenants(name) IS 'The tenants that the row level security policies let a role see';

RESET ROLE;
ANALYZE;
