CREATE TABLE house.things (id uuid PRIMARY KEY);
