-- What a record may hold after 0012: requests in each state that others had agreed to, one of whom was shut out since; a
-- token that somebody's agent made for another; a standing role's password that was read by somebody who is leaving.
-- In whatever order.
SET session_replication_role = replica;
INSERT INTO principal (id, issuer, subject, kind, created_at, disabled_at) VALUES
 ('00000000-0000-7000-8000-000000000001','local','ann','person',now(),NULL),
 ('00000000-0000-7000-8000-000000000002','local','bob','person',now(),now()),
 ('00000000-0000-7000-8000-000000000003','local','boss','person',now(),NULL);
INSERT INTO principal (id, issuer, subject, kind, created_at, acts_for) VALUES
 ('00000000-0000-7000-8000-000000000004','local','bot','service',now(),'00000000-0000-7000-8000-000000000003');
INSERT INTO token (id, principal_id, name, hash, created_at, makers, scopes)
 SELECT gen_random_uuid(), '00000000-0000-7000-8000-000000000001','t','h',now(),ARRAY['00000000-0000-7000-8000-000000000004']::uuid[], NULL;
INSERT INTO lease (id,state,cause,profile_id,profile,target_id,database,group_role,connection_limit,settings,principal_id,tool,ttl,created_at,expires_at,max_expires_at,ended_at,login_id,standing_role) VALUES
 ('00000000-0000-7000-a000-000000000001','revoked','failed',NULL,'p','00000000-0000-7000-c000-000000000001','d','g',1,'{}','00000000-0000-7000-8000-000000000001','t','{}',now(),now(),now(),now(),gen_random_uuid(),NULL),
 ('00000000-0000-7000-a000-000000000002','revoked','expired',NULL,'p','00000000-0000-7000-c000-000000000001','d','g',1,'{}','00000000-0000-7000-8000-000000000001','t','{}',now(),now(),now(),now(),gen_random_uuid(),NULL),
 ('00000000-0000-7000-a000-000000000003','active',NULL,NULL,'p','00000000-0000-7000-c000-000000000001','d','g',1,'{}','00000000-0000-7000-8000-000000000001','t','{}',now(),now(),now(),NULL,gen_random_uuid(),'etl');
INSERT INTO request (id,state,principal_id,profile,profile_version,target_id,database,tool,ttl,needs,approvers,created_at,lapse_at,decided_at,use_by,lease_id) VALUES
 ('00000000-0000-7000-b000-000000000001','pending','00000000-0000-7000-8000-000000000001','p',1,'00000000-0000-7000-c000-000000000001','d','t','{}','{}','{}',now(),now()+'1h',NULL,NULL,NULL),
 ('00000000-0000-7000-b000-000000000002','approved','00000000-0000-7000-8000-000000000001','p',1,'00000000-0000-7000-c000-000000000001','d','t','{}','{}','{}',now(),now()+'1h',now(),now()+'1h',NULL),
 ('00000000-0000-7000-b000-000000000003','claimed','00000000-0000-7000-8000-000000000001','p',1,'00000000-0000-7000-c000-000000000001','d','t','{}','{}','{}',now(),now()+'1h',now(),now()+'1h','00000000-0000-7000-a000-000000000001'),
 ('00000000-0000-7000-b000-000000000004','claimed','00000000-0000-7000-8000-000000000001','p',1,'00000000-0000-7000-c000-000000000001','d','t','{}','{}','{}',now(),now()-'1h'::interval,now(),now()-'1h'::interval,'00000000-0000-7000-a000-000000000002');
INSERT INTO vote (request_id, principal_id, step, verdict, via, created_at)
 SELECT id, '00000000-0000-7000-8000-000000000002', 0, 'agreed', 'page', now() FROM request;
INSERT INTO emergency (lease_id) VALUES ('00000000-0000-7000-a000-000000000002');
INSERT INTO target (id,name,version,environment,host,port,sslmode,admin_user,databases,created_at,updated_at,admin_password) VALUES ('00000000-0000-7000-c000-000000000001','t',1,'e','h',1,'verify-full','a','{d}',now(),now(),'x');
INSERT INTO audit_entry (id, created_at, body) VALUES (gen_random_uuid(), now(), '{"actor":{"id":"prn_00000000000070008000000000000001"},"event":{"kind":"standing-role.read","lease_id":"lse_0000000000007000a000000000000003"}}');
INSERT INTO offboarding (id, principal_id, started_at, started_by, codes_withdrawn) VALUES
 ('00000000-0000-7000-d000-000000000001','00000000-0000-7000-8000-000000000001',now(),'00000000-0000-7000-8000-000000000003','{}');
INSERT INTO offboarding_secret (offboarding_id, lease_id, standing_role, read_at) VALUES
 ('00000000-0000-7000-d000-000000000001','00000000-0000-7000-a000-000000000003','etl',now());
