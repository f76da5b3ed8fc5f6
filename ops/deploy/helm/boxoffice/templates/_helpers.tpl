{{- define "boxoffice.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "boxoffice.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "boxoffice.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "boxoffice.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "boxoffice.selector" -}}
app.kubernetes.io/name: {{ include "boxoffice.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "boxoffice.labels" -}}
{{ include "boxoffice.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "boxoffice.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "boxoffice.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "boxoffice.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* A tree of settings as the environment spells it. Numbers as JSON: Go prints a million as 1e+06. */}}
{{- define "boxoffice.settings" -}}
{{- range $name, $value := .tree }}
{{- if kindIs "map" $value }}
{{- include "boxoffice.settings" (dict "prefix" (printf "%s%s__" $.prefix (upper $name)) "tree" $value) }}
{{- else if not (kindIs "invalid" $value) }}
- name: {{ printf "%s%s" $.prefix (upper $name) }}
  value: {{ kindIs "string" $value | ternary $value (toJson $value) | replace "$(" "$$(" | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "boxoffice.secret" -}}
{{- required "secrets.existing: name the Secret that has the URLs and keys (docs/deploying.md)" (default .root.Values.secrets.existing .component.existingSecret) -}}
{{- end -}}

{{/* What every container is told. */}}
{{- define "boxoffice.env" -}}
{{- include "boxoffice.settings" (dict "prefix" "BOXOFFICE_" "tree" .root.Values.settings) }}
- name: BOXOFFICE_TELEMETRY__HOST
  value: {{ .root.Values.listen | quote }}
- name: BOXOFFICE_TELEMETRY__API_PORT
  value: "9464"
- name: BOXOFFICE_TELEMETRY__WORKER_PORT
  value: "9465"
{{- range $name, $key := .root.Values.secrets.keys }}
{{- if $key }}
{{- if $.root.Values.secrets.asFiles }}
- name: {{ $name }}_FILE
  value: /run/secrets/boxoffice/{{ $key }}
{{- else }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef: {name: {{ include "boxoffice.secret" $ }}, key: {{ $key }}}
{{- end }}
{{- end }}
{{- end }}
{{- with .component.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The parts of a pod that all have. */}}
{{- define "boxoffice.pod" -}}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
automountServiceAccountToken: false
# Kubernetes would put BOXOFFICE_PORT=tcp://… into the environment for a Service of our name.
enableServiceLinks: false
securityContext: {{- toYaml .root.Values.podSecurityContext | nindent 2 }}
{{- with .component.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .component.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .component.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .component.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
volumes:
  - name: tmp
    emptyDir: {medium: Memory, sizeLimit: 16Mi}
{{- if .root.Values.secrets.asFiles }}
  - name: secrets
    secret:
      secretName: {{ include "boxoffice.secret" . }}
      defaultMode: 0440
      items:
      {{- range $key := compact (values .root.Values.secrets.keys) | sortAlpha | uniq }}
        - {key: {{ $key }}, path: {{ $key }}}
      {{- end }}
{{- end }}
{{- with .component.extraVolumes }}
{{ toYaml . | indent 2 }}
{{- end }}
{{- end -}}

{{/* The parts of a container that all have. */}}
{{- define "boxoffice.container" -}}
image: {{ include "boxoffice.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext: {{- toYaml .root.Values.securityContext | nindent 2 }}
env:
  {{- include "boxoffice.env" . | nindent 2 }}
resources: {{- toYaml .component.resources | nindent 2 }}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
{{- if .root.Values.secrets.asFiles }}
  - {name: secrets, mountPath: /run/secrets/boxoffice, readOnly: true}
{{- end }}
{{- with .component.extraVolumeMounts }}
{{ toYaml . | indent 2 }}
{{- end }}
{{- end -}}

{{/* Pods of a kind on different nodes and in different zones, where there are any. */}}
{{- define "boxoffice.spread" -}}
topologySpreadConstraints:
{{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "boxoffice.selector" $.root | nindent 8 }}
        app.kubernetes.io/component: {{ $.name }}
{{- end }}
{{- end -}}
