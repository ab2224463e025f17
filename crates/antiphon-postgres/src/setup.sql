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
  name text := to_json(event)::text;
  list text := name || coalesce(
    (SELECT string_agg(',' || value::text, '') FROM jsonb_array_elements(args) AS value), ''
  );
BEGIN
  INSERT INTO antiphon_events (id, topic, payload) VALUES (
    number,
    convert_to('antiphon:namespace:' || namespace, 'UTF8'),
    set_byte('\x00', 0, VERSION) || antiphon_text('postgres') || antiphon_text(namespace) || '\x03'
      || antiphon_texts(rooms) || antiphon_texts(except_rooms) || '\x00'
      || antiphon_number(octet_length(convert_to(name, 'UTF8'))) || antiphon_text(list)
      || antiphon_number(0) || antiphon_number(number)
  );
  NOTIFY antiphon_events;
END $$;

-- By that servers see whether it is said for them.
COMMENT ON FUNCTION antiphon_emit IS 'antiphon VERSION';
