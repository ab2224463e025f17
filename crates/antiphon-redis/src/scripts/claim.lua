-- Makes a session another server's, if it is still the first one's.
-- KEYS: the session. ARGV: the first server, and the other.
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[1], 'owner', ARGV[2])
return 1
