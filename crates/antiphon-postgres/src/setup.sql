-- What the servers of an antiphon cluster share in a database. It may be said again.

-- An event a row. Its transaction says whether a server has seen it: see src/place.rs.
CREATE TABLE IF NOT EXISTS antiphon_events (
  xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
  id bigserial,
  created timestamptz NOT NULL DEFAULT clock_timestamp(),
  topic bytea NOT NULL,
  tag int NOT NULL GENERATED ALWAYS AS
    (get_byte(sha256(topic), 0) << 8 | get_byte(sha256(topic), 1)) STORED,
  payload bytea NOT NULL,
  PRIMARY KEY (xid, id)
);

-- One row: which rows are swept next. It is empty after a crash and on a standby that takes over,
-- where numbers of transactions may have gone back: by that servers notice.
CREATE UNLOGGED TABLE IF NOT EXISTS antiphon_state (
  one bool PRIMARY KEY DEFAULT true CHECK (one),
  epoch uuid NOT NULL DEFAULT gen_random_uuid(),
  swept pg_snapshot,
  next pg_snapshot NOT NULL DEFAULT pg_current_snapshot(),
  next_id bigint NOT NULL DEFAULT 0,
  next_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- A number, seven bits a byte, the lowest first.
CREATE OR REPLACE FUNCTION antiphon_number(number bigint) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE STRICT AS $$
DECLARE
  bytes bytea := '';
BEGIN
  WHILE number > 127 LOOP
    bytes := bytes || set_byte('\x00', 0, (number & 127 | 128)::int);
    number := number >> 7;
  END LOOP;
  RETURN bytes || set_byte('\x00', 0, number::int);
END $$;

-- A text behind its length.
CREATE OR REPLACE FUNCTION antiphon_text(value text) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT SET search_path FROM CURRENT AS $$
  SELECT antiphon_number(octet_length(convert_to(value, 'UTF8'))) || convert_to(value, 'UTF8')
$$;

-- Texts behind their count.
CREATE OR REPLACE FUNCTION antiphon_texts(list text[]) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT SET search_path FROM CURRENT AS $$
  SELECT antiphon_number(cardinality(list)) || coalesce(string_agg(antiphon_text(value), ''), '')
  FROM unnest(list) AS value
$$;

-- Emits an event to the sockets in any of these rooms, or to all: when the transaction commits,
-- and only then.
CREATE OR REPLACE FUNCTION antiphon_emit(
  namespace text, rooms text[], event text, args jsonb DEFAULT '[]', except_rooms text[] DEFAULT '{}'
) RETURNS void
LANGUAGE plpgsql STRICT SET search_path FROM CURRENT AS $$
DECLARE
  number bigint := nextval('antiphon_events_id_seq');
  -- Each is a sender of its own: servers take no event of a sender that comes behind a later one.
  sender text := 'postgres:' || number;
  name text := to_json(event)::text;
  list text := name || coalesce(
    (SELECT string_agg(',' || value::text, '') FROM jsonb_array_elements(args) AS value), ''
  );
BEGIN
  INSERT INTO antiphon_events (id, topic, payload) VALUES (
    number,
    convert_to('antiphon:namespace:' || namespace, 'UTF8'),
    set_byte('\x00', 0, VERSION) || antiphon_text(sender) || antiphon_text(namespace) || '\x03'
      || antiphon_texts(rooms) || antiphon_texts(except_rooms) || '\x00'
      || antiphon_number(octet_length(convert_to(name, 'UTF8'))) || antiphon_text(list)
      || antiphon_number(0) || antiphon_number(1)
  );
  NOTIFY antiphon_events;
END $$;

-- The logs of namespaces with recovery, by their topics. Whoever appends holds the row of the log.
CREATE TABLE IF NOT EXISTS antiphon_logs (
  log bytea PRIMARY KEY,
  base bigint NOT NULL,
  last bigint NOT NULL,
  keep bigint NOT NULL DEFAULT 0,
  keep_ms bigint NOT NULL DEFAULT 0
);

CREATE TABLE IF NOT EXISTS antiphon_entries (
  log bytea NOT NULL,
  place bigint NOT NULL,
  before bigint NOT NULL,
  written timestamptz NOT NULL DEFAULT clock_timestamp(),
  entry bytea NOT NULL,
  PRIMARY KEY (log, place)
);

-- The last number of each sender.
CREATE TABLE IF NOT EXISTS antiphon_senders (
  log bytea NOT NULL,
  sender bytea NOT NULL,
  number bigint NOT NULL,
  written timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (log, sender)
);

CREATE TABLE IF NOT EXISTS antiphon_sessions (
  log bytea NOT NULL,
  pid bytea NOT NULL,
  owner bytea NOT NULL,
  session bytea NOT NULL,
  until timestamptz NOT NULL,
  PRIMARY KEY (log, pid)
);

-- Gives an entry its place, and tells all servers.
CREATE OR REPLACE FUNCTION antiphon_place(of_log bytea, at_place bigint, behind bigint, what bytea)
RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
  UPDATE antiphon_logs SET last = at_place WHERE log = of_log;
  INSERT INTO antiphon_entries (log, place, before, entry)
    VALUES (of_log, at_place, behind, what);
  INSERT INTO antiphon_events (topic, payload)
    VALUES (of_log, convert_to(at_place || ':' || behind || ':', 'UTF8') || what);
  -- What was delivered isn't lost by a crash.
  SET LOCAL synchronous_commit TO DEFAULT;
  NOTIFY antiphon_events;
END $$;

-- How far a log goes. One that isn't there begins behind all places that were ever given. One that
-- doesn't go as far as somebody has heard has lost its end, and goes on behind a break.
CREATE OR REPLACE FUNCTION antiphon_open(of_log bytea, heard bigint)
RETURNS TABLE (from_place bigint, to_place bigint)
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
  fresh bigint := (extract(epoch FROM clock_timestamp()) * 1000)::bigint << 10;
BEGIN
  INSERT INTO antiphon_logs (log, base, last) VALUES (of_log, fresh, fresh) ON CONFLICT DO NOTHING;
  SELECT base, last INTO from_place, to_place FROM antiphon_logs WHERE log = of_log FOR UPDATE;
  IF heard > to_place THEN
    from_place := greatest(fresh, heard + 1);
    UPDATE antiphon_logs SET base = from_place WHERE log = of_log;
    PERFORM antiphon_place(of_log, from_place, to_place, '');
    to_place := from_place;
  END IF;
  RETURN NEXT;
END $$;

-- Appends an entry, unless it or a later one of its sender has been appended before.
CREATE OR REPLACE FUNCTION antiphon_append(
  of_log bytea, of_sender bytea, of_number bigint, what bytea, most bigint, ms bigint
) RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
  behind bigint;
BEGIN
  LOOP
    UPDATE antiphon_logs SET keep = most, keep_ms = ms WHERE log = of_log RETURNING last INTO behind;
    EXIT WHEN FOUND;
    PERFORM antiphon_open(of_log, 0);
  END LOOP;
  INSERT INTO antiphon_senders (log, sender, number) VALUES (of_log, of_sender, of_number)
    ON CONFLICT (log, sender) DO UPDATE SET number = excluded.number, written = excluded.written
    WHERE antiphon_senders.number < excluded.number;
  IF FOUND THEN
    PERFORM antiphon_place(of_log, behind + 1, behind, what);
  END IF;
END $$;

-- Keeps a session of a server, or forgets it. Returns whether it was the server's.
CREATE OR REPLACE FUNCTION antiphon_save(
  of_log bytea, of_owner bytea, of_pid bytea, what bytea, ms bigint
) RETURNS bool LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
  IF what IS NULL THEN
    DELETE FROM antiphon_sessions WHERE log = of_log AND pid = of_pid AND owner = of_owner;
    RETURN NOT EXISTS (SELECT FROM antiphon_sessions WHERE log = of_log AND pid = of_pid);
  END IF;
  INSERT INTO antiphon_sessions (log, pid, owner, session, until)
    VALUES (of_log, of_pid, of_owner, what, clock_timestamp() + ms * interval '1 ms')
    ON CONFLICT (log, pid) DO UPDATE SET session = excluded.session, until = excluded.until
    WHERE antiphon_sessions.owner = of_owner;
  RETURN FOUND;
END $$;

-- By that servers see whether it is said for them.
COMMENT ON FUNCTION antiphon_emit IS 'antiphon VERSION';
