-- The demo shop, part 4: rows. Run in database shop as the superuser, in one session.
-- Everything comes from numbers and hashes of them, so that each playground has the same shop; only the dates
-- move along with today.

CREATE FUNCTION pg_temp.pick(n bigint, salt text, below integer) RETURNS integer
LANGUAGE sql IMMUTABLE AS $$ SELECT ((hashint8extended(n, hashtext(salt)) & 2147483647) % below)::integer $$;

INSERT INTO public.tenants (id, slug, name, plan, created_at) VALUES
  (1, 'acme', 'Acme Outdoor', 'business', now() - interval '3 years'),
  (2, 'globex', 'Globex Home', 'starter', now() - interval '2 years');

INSERT INTO private.tenant_member (group_role, tenant_id) VALUES
  ('pgvg_shop_read', 1), ('pgvg_shop_read', 2),
  ('pgvg_shop_write', 1), ('pgvg_shop_write', 2),
  ('pgvg_shop_fix', 1), ('pgvg_shop_fix', 2),
  ('pgvg_shop_emergency', 1), ('pgvg_shop_emergency', 2),
  ('shop_support', 1), ('shop_support', 2),
  ('pgvg_acme_read', 1),
  ('pgvg_globex_read', 2);

INSERT INTO public.categories (id, parent_id, name) VALUES
  (1, NULL, 'Outdoor'), (2, 1, 'Tents'), (3, 1, 'Backpacks'), (4, 1, 'Lamps'), (5, 1, 'Stoves'), (6, 1, 'Boots'),
  (7, NULL, 'Home'), (8, 7, 'Chairs'), (9, 7, 'Kettles'), (10, 7, 'Rugs'), (11, 7, 'Mirrors'), (12, 7, 'Shelves');

CREATE TEMPORARY TABLE person AS
SELECT n, first || ' ' || last AS name, lower(first || '.' || last) AS mail
FROM generate_series(1, 3100) AS n,
  LATERAL (SELECT
    (ARRAY['Ada','Ben','Clara','David','Elena','Farid','Greta','Hugo','Ines','Jonas','Karin','Liam','Maya','Nils',
           'Olga','Pablo','Rosa','Samir','Tessa','Umut','Vera','Wim','Yara','Zoe'])[1 + pg_temp.pick(n, 'first', 24)] AS first,
    (ARRAY['Almeida','Becker','Costa','Dubois','Eriksen','Fischer','Garcia','Haddad','Ivanova','Jansen','Keller',
           'Lindberg','Moreau','Novak','Okafor','Peeters','Quinn','Rossi','Silva','Tanaka','Usman','Virtanen',
           'Weber','Yilmaz','Zhang'])[1 + pg_temp.pick(n, 'last', 25)] AS last) AS names;

INSERT INTO public.users (tenant_id, name, email, job, password_hash, created_at)
SELECT tenant_id, person.name, mail || n || '@' || slug || '.example',
  (ARRAY['owner','manager','support','support','warehouse','warehouse'])[least(6, 1 + (n - 1) / 4)],
  -- Looks like what must not leak; is the hash of nothing.
  'argon2id$' || md5('hash' || n), now() - interval '1 day' * (100 + pg_temp.pick(n, 'joined', 600))
FROM person CROSS JOIN LATERAL (SELECT 1 + n % 2 AS tenant_id) AS whose JOIN public.tenants ON tenants.id = tenant_id
WHERE n <= 24;

INSERT INTO public.customers (tenant_id, name, email, phone, country, created_at)
SELECT 1 + n % 2, name, mail || n || '@mail.example',
  CASE WHEN pg_temp.pick(n, 'has phone', 3) > 0 THEN '+49 30 5550' || lpad(pg_temp.pick(n, 'phone', 10000)::text, 4, '0') END,
  (ARRAY['DE','FR','NL','ES','IT','SE','PL','PT'])[1 + pg_temp.pick(n, 'country', 8)],
  now() - interval '1 hour' * pg_temp.pick(n, 'since', 17000)
FROM person WHERE n <= 3000 ORDER BY n;

INSERT INTO public.addresses (tenant_id, customer_id, kind, street, postcode, city, country)
SELECT tenant_id, id, kind,
  (ARRAY['Mill Lane','Station Road','Harbour Street','Church Square','Garden Row','Park Avenue','Bridge Street'])
    [1 + pg_temp.pick(id, 'street ' || kind, 7)] || ' ' || 1 + pg_temp.pick(id, kind || 'number', 180),
  lpad(pg_temp.pick(id, kind || 'postcode', 100000)::text, 5, '0'),
  (ARRAY['Berlin','Lyon','Utrecht','Valencia','Turin','Uppsala','Gdansk','Porto'])[1 + pg_temp.pick(id, 'country', 8)], country
FROM public.customers CROSS JOIN (VALUES ('billing'), ('shipping')) AS kinds (kind)
WHERE kind = 'billing' OR pg_temp.pick(id, 'two addresses', 3) = 0;

INSERT INTO public.products (tenant_id, category_id, sku, name, price, stock, active)
SELECT tenant_id, category_id, upper(left(categories.name, 3)) || '-' || lpad(n::text, 4, '0'),
  (ARRAY['Alpine','Nordic','Classic','Compact','Royal','Urban','Coastal','Heritage'])[1 + pg_temp.pick(n, 'line', 8)] || ' '
    || rtrim(categories.name, 's') || ' ' || 100 + n,
  (5 + pg_temp.pick(n, 'price', 240))::numeric + 0.90 + 0.05 * pg_temp.pick(n, 'cents', 2),
  pg_temp.pick(n, 'stock', 400), pg_temp.pick(n, 'active', 12) > 0
FROM generate_series(1, 240) AS n
  CROSS JOIN LATERAL (SELECT 1 + n % 2 AS tenant_id, 2 + 6 * (n % 2) + pg_temp.pick(n, 'category', 5) AS category_id) AS whose
  JOIN public.categories ON categories.id = category_id
ORDER BY n;

INSERT INTO public.orders (tenant_id, customer_id, status, placed_at, note)
SELECT 1 + customer_id % 2, customer_id,
  CASE WHEN age < 3 THEN (ARRAY['pending','paid','paid','cancelled'])[1 + pg_temp.pick(n, 'fresh', 4)]
       WHEN age < 10 THEN (ARRAY['paid','shipped','shipped','delivered'])[1 + pg_temp.pick(n, 'recent', 4)]
       ELSE (ARRAY['delivered','delivered','delivered','delivered','delivered','delivered','returned','cancelled'])
         [1 + pg_temp.pick(n, 'old', 8)] END::public.order_status,
  now() - interval '1 day' * age - interval '1 second' * pg_temp.pick(n, 'time', 86000),
  CASE WHEN pg_temp.pick(n, 'note', 15) = 0 THEN 'Please leave it with the neighbours' END
FROM generate_series(1, 12000) AS n
  CROSS JOIN LATERAL (SELECT 1 + pg_temp.pick(n, 'customer', 3000) AS customer_id, (12000 - n) * 730 / 12000 AS age) AS drawn
ORDER BY n;

-- Products of the same tenant have ids of the same parity as its customers.
INSERT INTO public.order_items (order_id, line, tenant_id, product_id, quantity, price)
SELECT orders.id, line, orders.tenant_id, products.id, 1 + pg_temp.pick(orders.id * 8 + line, 'quantity', 3), products.price
FROM public.orders
  CROSS JOIN LATERAL generate_series(1, 1 + pg_temp.pick(orders.id, 'lines', 4)) AS line
  JOIN public.products
    ON products.id = 2 * pg_temp.pick(orders.id * 8 + line, 'product', 120) + CASE orders.tenant_id WHEN 2 THEN 1 ELSE 2 END;

UPDATE public.orders SET total = sums.total
FROM (SELECT order_id, sum(quantity * price) AS total FROM public.order_items GROUP BY order_id) AS sums
WHERE sums.order_id = orders.id;

INSERT INTO public.payments (tenant_id, order_id, method, card_last4, amount, paid_at)
SELECT tenant_id, id, method,
  CASE method WHEN 'card' THEN lpad(pg_temp.pick(id, 'card', 10000)::text, 4, '0') END,
  total, least(placed_at + interval '1 minute' * pg_temp.pick(id, 'paid', 2000), now())
FROM public.orders
  CROSS JOIN LATERAL (SELECT (ARRAY['card','card','card','transfer','invoice'])[1 + pg_temp.pick(id, 'method', 5)] AS method) AS drawn
WHERE status NOT IN ('pending', 'cancelled');

INSERT INTO public.shipments (tenant_id, order_id, carrier, tracking, shipped_at, delivered_at)
SELECT tenant_id, id, (ARRAY['Swift Parcel','North Post','Green Courier'])[1 + pg_temp.pick(id, 'carrier', 3)],
  upper(substr(md5('tracking' || id), 1, 12)), least(placed_at + interval '1 day', now()),
  CASE WHEN status IN ('delivered', 'returned') THEN least(placed_at + interval '3 days', now()) END
FROM public.orders WHERE status IN ('shipped', 'delivered', 'returned');

INSERT INTO public.reviews (tenant_id, product_id, customer_id, stars, body, written_at)
SELECT items.tenant_id, product_id, customer_id, stars,
  (ARRAY['Broke within a week','Not what I hoped for','Does what it should','Good value, would buy again','Simply excellent'])[stars],
  placed_at + interval '3 days'
FROM public.order_items AS items JOIN public.orders ON orders.id = items.order_id
  CROSS JOIN LATERAL (SELECT 5 - pg_temp.pick(order_id, 'stars', 9) / 2 AS stars) AS drawn
WHERE line = 1 AND status = 'delivered' AND pg_temp.pick(order_id, 'writes', 4) = 0;

INSERT INTO public.inventory_movements (tenant_id, product_id, user_id, change, reason, moved_at)
SELECT products.tenant_id, products.id, users.id, CASE WHEN n % 5 = 0 THEN 20 + pg_temp.pick(n, 'more', 80) ELSE -1 - pg_temp.pick(n, 'less', 5) END,
  CASE WHEN n % 5 = 0 THEN 'delivery' WHEN n % 7 = 0 THEN 'damaged' ELSE 'picked' END, now() - interval '3 hours' * (5000 - n)
FROM generate_series(1, 5000) AS n
  JOIN public.products ON products.id = 1 + pg_temp.pick(n, 'moved', 240)
  JOIN public.users ON users.id = 2 * pg_temp.pick(n, 'by', 12) + CASE products.tenant_id WHEN 2 THEN 1 ELSE 2 END;

DROP TABLE person;
DROP FUNCTION pg_temp.pick(bigint, text, integer);
