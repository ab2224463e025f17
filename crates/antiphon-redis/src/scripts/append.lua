-- Appends an entry, unless it has been appended before, and publishes it with its place.
-- KEYS: the stream, which is the channel, too; what is known of the log; the sender's last number.
-- ARGV: the number, the entry, how many entries are kept, and for how many ms.
local sent = redis.call('GET', KEYS[3])
if sent and tonumber(sent) >= tonumber(ARGV[1]) then
  return 0
end
local before = last_place()
local place = text(redis.call('HINCRBY', KEYS[2], 'last', 1))
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[3], place .. '-0', 'b', before, 'e', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('SET', KEYS[3], ARGV[1], 'PX', 3600000)
redis.call('PUBLISH', KEYS[1], place .. ':' .. before .. ':' .. ARGV[2])
return 1
