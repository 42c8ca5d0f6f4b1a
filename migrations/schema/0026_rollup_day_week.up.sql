-- For the next step: the week of insertion of what has only a month. Questions
-- leave out weeks before what they ask for, so it is not earlier than it was.
ALTER TABLE rollup_day ADD COLUMN IF NOT EXISTS week Date DEFAULT toMonday(least(addMonths(month, 1) - 1, today()))
