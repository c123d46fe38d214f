CREATE TYPE mood AS ENUM ('sad', 'it''s ok');
COMMENT ON TYPE mood IS 'how it feels';
CREATE DOMAIN short AS text CONSTRAINT not_blank CHECK (VALUE <> '');
CREATE TYPE pair AS (label short, how mood);
CREATE TYPE span AS RANGE (subtype = float8);
CREATE SEQUENCE shared_numbers START 5;
COMMENT ON SEQUENCE shared_numbers IS 'drawn from';
CREATE TABLE langchain_pg_collection (
    uuid uuid PRIMARY KEY, name varchar NOT NULL UNIQUE, cmetadata json);
CREATE TABLE langchain_pg_embedding (
    id varchar PRIMARY KEY,
    collection_id uuid REFERENCES langchain_pg_collection (uuid) ON DELETE CASCADE,
    embedding vector(3), document varchar, cmetadata jsonb);
CREATE INDEX by_distance ON langchain_pg_embedding
    USING hnsw (embedding vector_cosine_ops) WITH (m = 8);
CREATE TABLE notes (
    id bigserial PRIMARY KEY, other int GENERATED ALWAYS AS IDENTITY, m mood DEFAULT 'sad',
    p pair, draws int DEFAULT nextval('shared_numbers'), a text COLLATE "C",
    twice int GENERATED ALWAYS AS (draws * 2) STORED,
    CONSTRAINT small CHECK (draws < 1000), CONSTRAINT one UNIQUE (a)) WITH (fillfactor = 70);
ALTER TABLE notes ALTER a SET STORAGE EXTERNAL, ALTER a SET STATISTICS 300, ALTER a SET COMPRESSION pglz,
    ADD CONSTRAINT late CHECK (draws > -5) NOT VALID, CLUSTER ON one, REPLICA IDENTITY FULL;
CREATE INDEX lowered ON notes (lower(a), draws DESC) INCLUDE (other) WHERE draws > 0;
ALTER INDEX lowered ALTER COLUMN 1 SET STATISTICS 77;
CREATE STATISTICS notes_stats ON draws, a FROM notes;
COMMENT ON TABLE notes IS E'a \\ and ''quotes''; DROP TABLE notes; --';
COMMENT ON COLUMN notes.a IS 'a column';
COMMENT ON CONSTRAINT small ON notes IS 'a check';
COMMENT ON INDEX lowered IS 'an index';
COMMENT ON STATISTICS notes_stats IS 'statistics';
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON notes AS RESTRICTIVE FOR SELECT TO v1_reader USING (a <> 'x');
COMMENT ON POLICY mine ON notes IS 'a policy';
CREATE TABLE looked_up (id int);
CREATE TABLE guarded (draws int);
CREATE POLICY looks ON guarded USING (EXISTS (SELECT FROM looked_up WHERE looked_up.id = draws));
GRANT SELECT ON notes TO v1_reader;
CREATE TABLE parts (id int, region text, body text, up uuid REFERENCES langchain_pg_collection (uuid),
    PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE parts_eu PARTITION OF parts FOR VALUES IN ('eu', 'it''s');
CREATE TABLE parts_rest PARTITION OF parts DEFAULT;
CREATE INDEX parts_body ON parts (body);
CREATE TABLE base (a int NOT NULL);
CREATE TABLE child (b int) INHERITS (base);
CREATE TABLE spans (s span);
CREATE TABLE typed OF pair;
INSERT INTO langchain_pg_collection VALUES ('00000000-0000-0000-0000-000000000001', 'c', '{"k": 1}');
INSERT INTO langchain_pg_embedding SELECT 'e' || i, '00000000-0000-0000-0000-000000000001', '[1,2,3]', 'text', '{}' FROM generate_series(1, 5) i;
INSERT INTO notes (a, p, draws) VALUES ('one', '(x,sad)', 7), ('two', NULL, DEFAULT);
INSERT INTO parts VALUES (1, 'eu', 'b', NULL), (2, 'us', NULL, '00000000-0000-0000-0000-000000000001');
INSERT INTO child VALUES (1, 2);
INSERT INTO spans VALUES ('[1,2)');
INSERT INTO typed VALUES ('x', 'sad');
INSERT INTO guarded VALUES (3);
