-- Who was active on a day, and when first and last.
--
-- Grain: one row per UTC day, user or installation, account, plan, country and editor. Qualifying events: all of the editor but
-- heartbeats, executions of agents, steps of workflows, what people did in the marketplace; not requests to the API.
-- An event that does not tell account, plan, country or editor has those that the person's other events of the day tell, the last
-- by name if they differ.
-- A UTC day meets at most two days of any time zone, so first_event and last_event tell on which of them there was activity:
-- calendar metrics of every zone come from this table. Ids are as the events had them: sql/views/activity.sql joins them.
-- Lateness: none is lost: it reads raw tables, and a day runs again when late events changed it. Units: events.
SELECT
  user_id,
  anonymous_id,
  account_id,
  tier,
  country,
  editor,
  min(first_event) AS first_event,
  max(last_event) AS last_event,
  sum(events) AS events
FROM (
  SELECT
    user_id,
    anonymous_id,
    coalesce(account_id, max(account_id) OVER person) AS account_id,
    coalesce(tier, max(tier) OVER person) AS tier,
    coalesce(country, max(country) OVER person) AS country,
    coalesce(editor, max(editor) OVER person) AS editor,
    first_event,
    last_event,
    events
  FROM (
    SELECT
      user_id,
      anonymous_id,
      account_id,
      tier,
      country,
      editor,
      min(event_time) AS first_event,
      max(event_time) AS last_event,
      count(*) AS events
    FROM (
      SELECT user_id, anonymous_id, account_id, tier, country, editor, event_time
      FROM raw_ide_events
      WHERE day = $day AND name IS DISTINCT FROM 'heartbeat'
      UNION ALL
      SELECT user_id, anonymous_id, account_id, tier, country, CAST(NULL AS TEXT), event_time
      FROM raw_agent_events
      WHERE day = $day
      UNION ALL
      SELECT user_id, anonymous_id, account_id, tier, CAST(NULL AS TEXT), CAST(NULL AS TEXT), event_time
      FROM raw_workflow_events
      WHERE day = $day
      UNION ALL
      SELECT user_id, anonymous_id, account_id, tier, country, CAST(NULL AS TEXT), event_time
      FROM raw_marketplace_events
      WHERE day = $day
    ) AS events
    WHERE coalesce(user_id, anonymous_id) IS NOT NULL
    GROUP BY user_id, anonymous_id, account_id, tier, country, editor
  ) AS told
  WINDOW person AS (PARTITION BY user_id, anonymous_id)
) AS filled
GROUP BY user_id, anonymous_id, account_id, tier, country, editor
