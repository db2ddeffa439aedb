#!/bin/sh
# Rebuilds the clip that `tapeloop demo` loops: two video renditions and one audio track, CMAF, cut
# into 2 s segments. Needs ffmpeg with libx264. The clip is checked by server/src/demo/clip.rs.
#
# The clip is 8 s long because that is where a 25 fps video frame (40 ms) and an AAC frame of 1024
# samples at 48 kHz (21.3 ms) end together: 200 video frames, 375 audio frames. Played in a loop,
# neither track drifts from the other.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

seconds=8
segment=2
exact="-fflags +bitexact -flags:v +bitexact -flags:a +bitexact -map_metadata -1"

# cut NAME INPUT: stream-copies INPUT into NAME/init.mp4 and NAME/0.m4s, 1.m4s, ...
# skip_sidx: a live segment needs no index of itself, and it would hold one more time to rewrite.
cut() {
    rm -rf "$1"
    mkdir "$1"
    # shellcheck disable=SC2086
    ffmpeg -v error -i "$2" -c copy $exact -f hls -hls_segment_type fmp4 -hls_time $segment \
        -hls_list_size 0 -hls_segment_options movflags=+skip_sidx \
        -hls_fmp4_init_filename init.mp4 -start_number 0 \
        -hls_segment_filename "$1/%d.m4s" "$1/stream.m3u8"
    rm "$1/stream.m3u8"
}

# video NAME SIZE BITRATE LEVEL: no B-frames (decode order is display order, so no edit list), one
# closed GOP per segment.
video() {
    # shellcheck disable=SC2086
    ffmpeg -v error -f lavfi -i "testsrc2=size=$2:rate=25:duration=$seconds" \
        -c:v libx264 -preset veryslow -profile:v main -level "$4" -pix_fmt yuv420p -bf 0 \
        -g 50 -keyint_min 50 -sc_threshold 0 -flags +cgop -threads 1 \
        -b:v "$3" -maxrate "$3" -bufsize "$3" $exact "$work/$1.mp4"
    cut "$1" "$work/$1.mp4"
}

video v360 640x360 260k 3.0
video v180 320x180 110k 1.3

# 8 s hold a whole number of periods of 440 Hz and of the beep, so the middle one of three encoded
# periods joins its own end without a click and without the encoder's priming silence.
ffmpeg -v error -f lavfi -i "sine=frequency=440:beep_factor=4:sample_rate=48000:duration=24" \
    -c:a aac -b:a 48k -ac 1 "$work/long.aac"
# shellcheck disable=SC2086
ffmpeg -v error -i "$work/long.aac" -ss $seconds -t $seconds -c copy -bsf:a aac_adtstoasc \
    $exact "$work/audio.mp4"
cut audio "$work/audio.mp4"
