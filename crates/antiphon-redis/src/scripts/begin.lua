-- Places of a log are never given twice, whatever has been lost: they go on behind the time.
local function now()
  local time = redis.call('TIME')
  return (time[1] * 1000 + math.floor(time[2] / 1000)) * 1024
end

local function text(number)
  return string.format('%.0f', number)
end

-- The log goes on here, and what was before may be lost.
local function break_at(place, before)
  redis.call('HSET', KEYS[2], 'base', place, 'last', place)
  redis.call('XADD', KEYS[1], place .. '-0', 'b', before, 'e', '')
  redis.call('PUBLISH', KEYS[1], place .. ':' .. before .. ':')
  return place
end

-- The log's last place. It begins if it isn't there.
local function last_place()
  local last = redis.call('HGET', KEYS[2], 'last')
  if last then
    return last
  end
  redis.call('DEL', KEYS[1])
  return break_at(text(now()), '0')
end
