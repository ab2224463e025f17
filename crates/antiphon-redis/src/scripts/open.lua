-- How far a log goes: its base and its last place.
-- KEYS: the stream; what is known of the log.
-- ARGV: the last place that the asking server has heard, the run of this Redis, and how many ms what
-- is known is kept.
local last = last_place()
local heard = tonumber(ARGV[1])
local is_lost = heard > tonumber(last)
local run = redis.call('HGET', KEYS[2], 'run')
-- Another run, or another Redis, may lack what the one before had given a place.
if is_lost or (run and run ~= ARGV[2]) then
  local place = text(math.max(tonumber(last) + 1, heard + 1, now()))
  if is_lost then
    break_at(place, last)
  else
    redis.call('HSET', KEYS[2], 'last', place)
    redis.call('XADD', KEYS[1], place .. '-0', 'b', last, 'e', '-')
    redis.call('PUBLISH', KEYS[1], place .. ':' .. last .. ':-')
  end
  last = place
end
redis.call('HSET', KEYS[2], 'run', ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return { redis.call('HGET', KEYS[2], 'base'), last }
