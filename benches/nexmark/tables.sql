-- The events of all Nexmark queries, which are put after this file. $source: the options that the three tables share,
-- such as events = 1000000, event_rate = 10000, seed = 1.
CREATE TABLE person WITH (connector = 'nexmark', table = 'person', $source);
CREATE TABLE auction WITH (connector = 'nexmark', table = 'auction', $source);
CREATE TABLE bid WITH (connector = 'nexmark', table = 'bid', $source);
