-- 16 KiB that the app gives back.
wrk.method = "POST"
wrk.body = string.rep("e", 16384)
