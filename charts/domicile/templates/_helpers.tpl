{{/* Labels of every object; dict "root" $ "component" name. */}}
{{- define "domicile.labels" -}}
{{ include "domicile.selector" . }}
app.kubernetes.io/part-of: domicile
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{- define "domicile.selector" -}}
app.kubernetes.io/name: domicile
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "domicile.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{/* Regions of the served sites as JSON, and a failure that names what is missing. */}}
{{- define "domicile.regions" -}}
{{- $regions := .Values.regions -}}
{{- if not $regions -}}
{{- $known := dict -}}
{{- range $zone := .Values.zones -}}{{- range $site := $zone.sites -}}{{- $_ := set $known $site.name $site.region -}}{{- end -}}{{- end -}}
{{- range $name := .Values.sites -}}
{{- if not (hasKey $known $name) -}}
{{- fail (printf "sites: no zone in `zones` has a site %q; add the zone, or set `regions` to the region of this cluster" $name) -}}
{{- end -}}
{{- $regions = append $regions (get $known $name) -}}
{{- end -}}
{{- end -}}
{{ $regions | uniq | toJson }}
{{- end -}}

{{/* What every pod of ours has; dict "root" $ "component" name "serviceAccount" name. */}}
{{- define "domicile.pod" -}}
serviceAccountName: {{ .serviceAccount }}
automountServiceAccountToken: {{ eq .component "operator" }}
enableServiceLinks: false
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile:
    type: RuntimeDefault
affinity:
  nodeAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      nodeSelectorTerms:
        - matchExpressions:
            - key: topology.kubernetes.io/region
              operator: In
              values: {{ include "domicile.regions" .root }}
{{- end -}}

{{- define "domicile.spread" -}}
topologySpreadConstraints:
  {{- $selector := include "domicile.selector" . }}
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- $selector | nindent 8 }}
  {{- end }}
{{- end -}}

{{- define "domicile.container" -}}
image: {{ include "domicile.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  capabilities:
    drop: [ALL]
  seccompProfile:
    type: RuntimeDefault
{{- end -}}

{{- define "domicile.probes" -}}
ports:
  - name: http
    containerPort: 8080
startupProbe:
  httpGet: {path: /healthz, port: http}
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /healthz, port: http}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: http}
  periodSeconds: 5
  timeoutSeconds: 4
{{- end -}}

{{/* Mounts and volumes; dict "sites" bool "credentials" secret name or "" "keys" secret name or "". */}}
{{- define "domicile.mounts" -}}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  {{- if .sites }}
  - {name: sites, mountPath: /etc/domicile/sites, readOnly: true}
  {{- end }}
  {{- if .credentials }}
  - {name: credentials, mountPath: /etc/domicile/credentials, readOnly: true}
  {{- end }}
  {{- if .keys }}
  - {name: keys, mountPath: /etc/domicile/keys, readOnly: true}
  {{- end }}
{{- end -}}

{{- define "domicile.volumes" -}}
volumes:
  - name: tmp
    emptyDir: {sizeLimit: {{ .tmp }}}
  {{- if .sites }}
  - name: sites
    configMap: {name: domicile-sites}
  {{- end }}
  {{- with .credentials }}
  - name: credentials
    secret: {secretName: {{ . }}, defaultMode: 0440}
  {{- end }}
  {{- with .keys }}
  - name: keys
    secret: {secretName: {{ . }}, defaultMode: 0440}
  {{- end }}
{{- end -}}
