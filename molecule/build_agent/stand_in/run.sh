#!/bin/bash
# A stand-in for the run.sh of both: waits for jobs, which are files in its work folder, and runs them.
set -uo pipefail
cd /var/lib/build-agent/work
while true; do
    for job in *.job; do
        [ -e "$job" ] || continue
        bash "./$job" >"${job%.job}.out" 2>&1
        echo $? >"${job%.job}.status"
        rm "$job"
    done
    sleep 0.2
done
