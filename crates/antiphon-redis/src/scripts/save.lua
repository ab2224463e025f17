-- Saves a session of a server, or forgets it if there is none, unless it is another server's.
-- KEYS: the session. ARGV: the server, for how many ms, and the session.
local owner = redis.call('HGET', KEYS[1], 'owner')
if owner and owner ~= ARGV[1] then
  return 0
end
if ARGV[3] then
  redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'session', ARGV[3])
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
else
  redis.call('DEL', KEYS[1])
end
return 1
