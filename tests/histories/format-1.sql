-- Of a history that the program of commit e4add8f wrote.
BEGIN TRANSACTION;
CREATE TABLE events (at_s REAL, wall TEXT, kind TEXT, text TEXT, facts TEXT);
INSERT INTO "events" VALUES(15.0,'2026-11-20T08:00:00+00:00','warn','quiet for 30m','{"usd": 2}');
CREATE TABLE readings (at_s REAL, wall TEXT, signal TEXT, reading TEXT);
INSERT INTO "readings" VALUES(10.0,'2026-11-20T08:00:00+00:00','gpu','{"signal": "gpu", "at_s": 10.0, "covers_s": 5.0, "facts": {"gpus": [{"util": 93}]}, "error": null, "absent": null}');
INSERT INTO "readings" VALUES(10.0,'2026-11-20T08:00:00+00:00','people','{"signal": "people", "at_s": 10.0, "covers_s": 5.0, "facts": {}, "error": "no /proc/net/tcp", "absent": null}');
CREATE TABLE state (one INTEGER PRIMARY KEY CHECK (one = 1), boot_key TEXT, settings TEXT, state TEXT);
INSERT INTO "state" VALUES(1,'pod1@100','settings1','{"clock":{"zero_s":10.0,"looked_s":10.0,"seen":{}},"phase":"watching","cause":null,"why":"","warned_s":0.0,"warn_for_s":0.0,"idle_at_warning_s":0.0,"void_s":0.0,"saved":false,"snapshot":null,"save_began_s":0.0,"look_from_s":0.0,"accepted_s":null,"failures":0,"retry_s":0.0,"observed_zero_s":null,"blind_since":{},"blind_alarm_s":{},"troubles":{}}');
CREATE INDEX readings_at ON readings (at_s);
COMMIT;
PRAGMA user_version = 1;
