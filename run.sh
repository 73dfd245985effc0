. /tmp/t10/env.sh; cd /tmp/t10/train3; n=fomepizole
fflux train $n-b3lyp-train.xyz --gradients -o $n-b3lyp.fflux > $n.out 2>&1
