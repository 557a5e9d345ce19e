BEGIN TRANSACTION;
CREATE TABLE deliveries (
	study VARCHAR(64) NOT NULL, 
	number INTEGER NOT NULL, 
	destination VARCHAR(256) NOT NULL, 
	status VARCHAR(16) NOT NULL, 
	round INTEGER NOT NULL, 
	tries INTEGER NOT NULL, 
	waited_seconds FLOAT NOT NULL, 
	next_try_at DATETIME, 
	ended_at DATETIME, 
	errors JSON NOT NULL, 
	PRIMARY KEY (study, number, destination), 
	FOREIGN KEY(study, number) REFERENCES reports (study, number) ON DELETE CASCADE
);
INSERT INTO "deliveries" VALUES('1.2.3',1,'pacs','pending',1,0,0.0,NULL,NULL,'[]');
INSERT INTO "deliveries" VALUES('1.2.4',1,'pacs','sent',1,1,0.0,NULL,'2026-11-23 12:00:00.000000','[]');
INSERT INTO "deliveries" VALUES('1.2.5',1,'pacs','parked',1,1,0.0,NULL,'2026-11-23 12:00:00.000000','["0xA700"]');
CREATE TABLE failures (
	id INTEGER NOT NULL, 
	study VARCHAR(64) NOT NULL, 
	at DATETIME NOT NULL, 
	reason TEXT NOT NULL, 
	images JSON NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(study) REFERENCES studies (study) ON DELETE CASCADE
);
INSERT INTO "failures" VALUES(1,'1.2.6','2026-11-23 12:00:00.000000','no object could be made','["1.2.6.1"]');
CREATE TABLE images_read (
	study VARCHAR(64) NOT NULL, 
	number INTEGER NOT NULL, 
	sop_instance VARCHAR(64) NOT NULL, 
	status VARCHAR(16) NOT NULL, 
	findings INTEGER NOT NULL, 
	reason TEXT, 
	PRIMARY KEY (study, number, sop_instance), 
	FOREIGN KEY(study, number) REFERENCES reports (study, number) ON DELETE CASCADE
);
INSERT INTO "images_read" VALUES('1.2.3',1,'1.2.3.1','found',2,NULL);
INSERT INTO "images_read" VALUES('1.2.4',1,'1.2.4.1','found',2,NULL);
INSERT INTO "images_read" VALUES('1.2.5',1,'1.2.5.1','found',2,NULL);
CREATE TABLE objects (
	study VARCHAR(64) NOT NULL, 
	sop_instance VARCHAR(64) NOT NULL, 
	sop_class VARCHAR(64) NOT NULL, 
	received_at DATETIME NOT NULL, 
	peer VARCHAR(64) NOT NULL, 
	whereabouts VARCHAR(16) NOT NULL, 
	report INTEGER, 
	tries INTEGER NOT NULL, 
	digest VARCHAR(128), 
	PRIMARY KEY (study, sop_instance), 
	FOREIGN KEY(study) REFERENCES studies (study) ON DELETE CASCADE
);
INSERT INTO "objects" VALUES('1.2.1','1.2.1.1','1.2.840.10008.5.1.4.1.1.1.2','2026-11-23 12:00:00.000000','MODALITY','kept',NULL,0,NULL);
INSERT INTO "objects" VALUES('1.2.2','1.2.2.1','1.2.840.10008.5.1.4.1.1.1.2','2026-11-23 12:00:00.000000','MODALITY','kept',NULL,1,NULL);
INSERT INTO "objects" VALUES('1.2.3','1.2.3.1','1.2.840.10008.5.1.4.1.1.1.2','2026-11-23 12:00:00.000000','MODALITY','kept',1,0,'1.2.840.10008.1.2.1 abc');
INSERT INTO "objects" VALUES('1.2.4','1.2.4.1','1.2.840.10008.5.1.4.1.1.1.2','2026-11-23 12:00:00.000000','MODALITY','kept',1,0,'1.2.840.10008.1.2.1 abc');
INSERT INTO "objects" VALUES('1.2.5','1.2.5.1','1.2.840.10008.5.1.4.1.1.1.2','2026-11-23 12:00:00.000000','MODALITY','kept',1,0,'1.2.840.10008.1.2.1 abc');
INSERT INTO "objects" VALUES('1.2.6','1.2.6.1','1.2.840.10008.5.1.4.1.1.1.2','2026-11-23 12:00:00.000000','MODALITY','aside',NULL,1,NULL);
CREATE TABLE reports (
	study VARCHAR(64) NOT NULL, 
	number INTEGER NOT NULL, 
	supersedes INTEGER, 
	made_at DATETIME NOT NULL, 
	algorithm VARCHAR(256) NOT NULL, 
	seconds FLOAT NOT NULL, 
	waited_seconds FLOAT NOT NULL, 
	problems JSON NOT NULL, 
	cleared BOOLEAN NOT NULL, 
	PRIMARY KEY (study, number), 
	FOREIGN KEY(study) REFERENCES studies (study) ON DELETE CASCADE
);
INSERT INTO "reports" VALUES('1.2.3',1,NULL,'2026-11-23 12:00:00.000000','mammoscope-mass 0.1.0+701a4472',1.5,30.0,'["an image is odd"]',0);
INSERT INTO "reports" VALUES('1.2.4',1,NULL,'2026-11-23 12:00:00.000000','mammoscope-mass 0.1.0+701a4472',1.5,30.0,'["an image is odd"]',0);
INSERT INTO "reports" VALUES('1.2.5',1,NULL,'2026-11-23 12:00:00.000000','mammoscope-mass 0.1.0+701a4472',1.5,30.0,'["an image is odd"]',0);
CREATE TABLE results_made (
	study VARCHAR(64) NOT NULL, 
	number INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	sop_class VARCHAR(64) NOT NULL, 
	sop_instance VARCHAR(64) NOT NULL, 
	series VARCHAR(64), 
	kind VARCHAR(32), 
	images JSON NOT NULL, 
	PRIMARY KEY (study, number, position), 
	FOREIGN KEY(study, number) REFERENCES reports (study, number) ON DELETE CASCADE
);
INSERT INTO "results_made" VALUES('1.2.3',1,1,'1.9','1.3.3','1.7','cad-sr','[]');
INSERT INTO "results_made" VALUES('1.2.4',1,1,'1.9','1.3.4','1.7','cad-sr','[]');
INSERT INTO "results_made" VALUES('1.2.5',1,1,'1.9','1.3.5','1.7','cad-sr','[]');
CREATE TABLE sendings (
	study VARCHAR(64) NOT NULL, 
	number INTEGER NOT NULL, 
	destination VARCHAR(256) NOT NULL, 
	sop_instance VARCHAR(64) NOT NULL, 
	position INTEGER NOT NULL, 
	status VARCHAR(16) NOT NULL, 
	error TEXT, 
	PRIMARY KEY (study, number, destination, sop_instance), 
	FOREIGN KEY(study, number, destination) REFERENCES deliveries (study, number, destination) ON DELETE CASCADE
);
INSERT INTO "sendings" VALUES('1.2.3',1,'pacs','1.3.3',1,'pending',NULL);
INSERT INTO "sendings" VALUES('1.2.4',1,'pacs','1.3.4',1,'sent',NULL);
INSERT INTO "sendings" VALUES('1.2.5',1,'pacs','1.3.5',1,'parked','0xA700');
CREATE TABLE studies (
	study VARCHAR(64) NOT NULL, 
	origin VARCHAR(16) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	first_received_at DATETIME NOT NULL, 
	last_received_at DATETIME NOT NULL, 
	arrivals INTEGER NOT NULL, 
	attempt INTEGER NOT NULL, 
	read_again BOOLEAN NOT NULL, 
	PRIMARY KEY (study)
);
INSERT INTO "studies" VALUES('1.2.1','sent','receiving','2026-11-23 12:00:00.000000','2026-11-23 12:00:00.000000',1,1,0);
INSERT INTO "studies" VALUES('1.2.2','sent','reading','2026-11-23 12:00:00.000000','2026-11-23 12:00:00.000000',1,1,0);
INSERT INTO "studies" VALUES('1.2.3','sent','sending','2026-11-23 12:00:00.000000','2026-11-23 12:00:00.000000',1,2,0);
INSERT INTO "studies" VALUES('1.2.4','sent','done','2026-11-23 12:00:00.000000','2026-11-23 12:00:00.000000',1,2,0);
INSERT INTO "studies" VALUES('1.2.5','sent','parked','2026-11-23 12:00:00.000000','2026-11-23 12:00:00.000000',1,2,0);
INSERT INTO "studies" VALUES('1.2.6','sent','failed','2026-11-23 12:00:00.000000','2026-11-23 12:00:00.000000',1,2,0);
CREATE TABLE versions (
	version INTEGER NOT NULL, 
	PRIMARY KEY (version)
);
INSERT INTO "versions" VALUES(1);
CREATE TABLE workers (
	name VARCHAR(128) NOT NULL, 
	host VARCHAR(256) NOT NULL, 
	process INTEGER NOT NULL, 
	started_at DATETIME NOT NULL, 
	beat_at DATETIME NOT NULL, 
	beats INTEGER NOT NULL, 
	PRIMARY KEY (name)
);
CREATE INDEX ix_studies_last_received_at ON studies (last_received_at);
CREATE INDEX ix_studies_state ON studies (state);
CREATE INDEX objects_by_sop_instance ON objects (sop_instance);
CREATE INDEX ix_failures_study ON failures (study);
CREATE INDEX results_by_sop_instance ON results_made (study, sop_instance);
CREATE INDEX ix_deliveries_status ON deliveries (status);
COMMIT;
